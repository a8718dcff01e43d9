"""The file that the context binary generator is given: it names the backend's own options.

Schema: https://docs.qualcomm.com/doc/80-63442-10/topic/htp_backend.html#qnn-htp-backend-extensions
"""

from __future__ import annotations

from typing import Any

from modelc.targets.snapdragon.sdk.find import EXTENSIONS


def backend_config(htp_config_file: str) -> dict[str, Any]:
    """Return the document that `--config_file` names; it points to the other.

    Args:
        htp_config_file: relative to the folder that the generator runs in.
    """
    # The library is found on LD_LIBRARY_PATH.
    return {
        "backend_extensions": {
            "shared_library_path": EXTENSIONS,
            "config_file_path": htp_config_file,
        }
    }
