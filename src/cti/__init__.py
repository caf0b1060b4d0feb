"""cti: from photos with image-level tags to pixel masks and a trained segmentation network.

The names below are imported when they are first used: `import cti` and `cti --help` must not wait for torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cti.method import CTI, CTIOutput
    from cti.predict.prediction import Prediction
    from cti.predict.predictor import Predictor

    __version__: str

__all__ = ["CTI", "CTIOutput", "Prediction", "Predictor", "__version__"]

_PLACES = {
    "CTI": "cti.method",
    "CTIOutput": "cti.method",
    "Prediction": "cti.predict.prediction",
    "Predictor": "cti.predict.predictor",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("cti")
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'cti' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
