"""Recipe ``pixel-timeseries``: land cover from a pixel's time series, by a temporal CNN."""
