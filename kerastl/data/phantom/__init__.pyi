from .generate import check_numbers as check_numbers
from .generate import write_phantoms as write_phantoms
