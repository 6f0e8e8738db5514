"""The objective inside other libraries. Each file needs another library, so this package imports no file by itself.

pyro.py  Pyro
scvi.py  scvi-tools: the whole loss of SCVI
scvi_patch.py  scvi-tools: log p of counts, for every model
onnx.py  ONNX: the translation of a sample for torch.onnx.export
"""
