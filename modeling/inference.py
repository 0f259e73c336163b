"""Address of `infer` in models that were registered before modules were grouped into folders; they import it."""

from modeling.network.inference import infer as infer
