"""The objective inside other libraries. Each file needs another library, so this package imports no file by itself.

pyro.py  Pyro
ctgan.py  TVAE of ctgan, and of SDV: attach
scvi/  scvi-tools: attach, for the models whose loss is known; patch, for every model
onnx.py  ONNX: the translation of a sample for torch.onnx.export
"""
