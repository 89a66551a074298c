"""plaudit rewards inside other trainers and evaluation tools."""
