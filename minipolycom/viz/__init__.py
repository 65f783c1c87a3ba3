"""What is looked at: the theme, figures made from plain data, and the widgets that move them.

theme     palette, line styles, templates
figures   data in, plotly figure out; `alt`, `table`, `show` and `static` for any of them
svg       the same figures as static pictures
widgets   sliders, live training, predictions: the only module that needs ipywidgets
"""
