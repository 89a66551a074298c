"""How text models are run."""
