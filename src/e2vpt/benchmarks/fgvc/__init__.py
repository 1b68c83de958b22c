"""The five fine-grained data sets of FGVC from their archives' layouts."""
