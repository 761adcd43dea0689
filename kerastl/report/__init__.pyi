from .page import write_report as write_report
from .preview_page import Shown as Shown
from .preview_page import write_preview as write_preview
