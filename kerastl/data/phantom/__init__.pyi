from .write import check_numbers as check_numbers
from .write import write_phantoms as write_phantoms
