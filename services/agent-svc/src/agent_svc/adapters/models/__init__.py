"""The drivers for language models, one file each; `BIZOS_MODEL_DRIVER` names the one in use."""
