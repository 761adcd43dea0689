from .page import write_report as write_report
from .preview_page import Shown as Shown
from .preview_page import write_preview as write_preview
from .rates import RULES as RULES
from .rates import curve_in_characters as curve_in_characters
from .rates import write_rates as write_rates
from .style_sheet import write_style_sheet as write_style_sheet
