from .generate import write_phantoms as write_phantoms
