"""A server for SavedModels in TF Serving's layout with its REST and gRPC interfaces; it knows nothing of REALM."""
