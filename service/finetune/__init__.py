"""From labelled lines to a packed, calibrated, proven adapter (extra `finetune`)."""
