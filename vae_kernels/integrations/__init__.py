"""The objective inside other libraries. Each file needs its library, so none is imported here.

scvi.py  scvi-tools
"""
