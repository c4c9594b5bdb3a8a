"""The routes that are not in a hurry: each parses, asks one object, shapes the answer."""
