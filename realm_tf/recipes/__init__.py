"""How the weights in the package are made."""
