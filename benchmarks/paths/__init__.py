"""What `benchmarks/run.py` measures, one module a path; see `benchmarks.rows` for what a module has."""
