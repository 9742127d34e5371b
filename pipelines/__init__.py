"""The roof: command line, configuration, Snakemake rules, demo data set, reports."""
