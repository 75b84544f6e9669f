"""Package metadata. The exact versions that the project is tested with are in requirements.lock."""

import sys

# Before any other import and in syntax that every Python reads, so that a wrong Python gets one sentence. pip has its
# own sentence from python_requires; this one is for `python setup.py`.
if not (3, 11) <= sys.version_info[:2] <= (3, 13) and "setuptools.build_meta" not in sys.modules:
    sys.stderr.write("realm-tf needs Python 3.11 to 3.13; %d.%d was found\n" % sys.version_info[:2])
    sys.exit(2)

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).resolve().parent


def read_version():
    """`__version__` of realm_tf, read as text: importing the package would need its dependencies."""
    text = (HERE / "realm_tf" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE).group(1)


# Why each is pinned is said in requirements.in.
REQUIRES = [
    "tensorflow==2.20.0",
    "tensorflow-text==2.20.1",
    "scann[tf]==1.4.2 ; sys_platform == 'linux'",
    "keras==3.15.*",
    "keras-nlp==0.32.*",
    "tensorflow-hub==0.16.1",
    "setuptools<81",
    "safetensors",
    "absl-py",
    "numpy",
    "rich",
    "matplotlib",
    "tensorboard",
]
EXTRAS = {
    "beam": ["apache-beam==2.77.*"],
    "bm25": ["bm25s==0.3.*"],
    "serve": [
        "tensorflow-serving-api==2.20.0",
        "grpcio",
        "starlette>=1.0,<2",
        "uvicorn>=0.40,<1",
        "prometheus-client>=0.22,<1",
    ],
    "dev": ["ruff", "pytest", "hypothesis"],
}
EXTRAS["all"] = [requirement for extra in EXTRAS.values() for requirement in extra]
# Outside "all" and the lock: an alternative to the project's own tagger that brings packages of its own.
EXTRAS["spacy"] = ["spacy>=3.8,<4"]
# Outside them too: Beam's runner for a cluster of Dask, tested with dask and distributed 2026.8.0.
EXTRAS["dask"] = ["apache-beam[dask]==2.77.*"]
# FAISS, which benchmarks/index_scale.py measures beside our indexes; nothing else imports it.
EXTRAS["bench"] = ["faiss-cpu>=1.12,<2"]
# A browser for the tests of the page: `make test-browser`. It brings a Node.js of 50 MB, so the lock has it not.
EXTRAS["browser"] = ["playwright>=1.49,<2"]

setup(
    name="realm-tf",
    version=read_version(),
    description="REALM, retrieval-augmented language-model pre-training, on TensorFlow 2 and Keras 3",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    packages=find_packages(include=["realm_tf", "realm_tf.*", "beam_jobs", "beam_jobs.*"]),
    package_data={"realm_tf": ["py.typed", "assets/**", "data/embedded/*.jsonl", "server/page.html"]},
    python_requires=">=3.11,<3.14",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
