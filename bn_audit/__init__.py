"""bn-audit: audits model files for batch-normalisation mode mistakes."""
