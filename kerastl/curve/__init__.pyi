from .adapt_curve import Outcome as Outcome
from .adapt_curve import adapt_curve as adapt_curve
from .begun import out_problems as out_problems
from .plan import Job as Job
from .plan import Plan as Plan
from .request import count_problems as count_problems
from .request import read_labels as read_labels
