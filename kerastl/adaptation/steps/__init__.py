"""The steps of methods that are more than classification and a loss of both domains."""
