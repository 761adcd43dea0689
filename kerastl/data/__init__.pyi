from .phantom import write_phantoms as write_phantoms
from .records import Collection as Collection
from .records import Record as Record
