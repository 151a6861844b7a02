"""The SARIF log, part by part."""
