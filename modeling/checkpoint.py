"""Address of `load_model` in models that were registered before modules were grouped into folders; they import it."""

from modeling.network.checkpoint import load_model as load_model
