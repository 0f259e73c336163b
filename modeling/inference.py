"""Former location of `infer`, which models registered by earlier versions import."""

from modeling.network.inference import infer as infer
