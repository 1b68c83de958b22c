"""The method measured against others; the only place that knows VTAB, FGVC, TFRecord and MATLAB files.

May import: every package above it, which ends with search. Inside it stand, each below those before it:
machine, spread, tables and cost; speed; compare; vtab; fgvc; suite.
Never: cli, which alone imports this package.
"""
