from .decision import decide as decide
from .domain_classifier import domain_auc as domain_auc
from .domain_classifier import site_label_auc as site_label_auc
from .evidence import Evidence as Evidence
from .evidence import Mixed as Mixed
from .evidence import Outputs as Outputs
from .evidence import VerifiedInformation as VerifiedInformation
from .ranking import rank as rank
