"""Former location of `load_model`, which models registered by earlier versions import."""

from modeling.network.checkpoint import load_model as load_model
