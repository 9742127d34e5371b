# The whole job: data -> feature rows -> fusion heads -> report.
#
#   snakemake --cores 2                              the generated demo
#   snakemake --cores 2 --configfile my.yaml         your data
#
# Install first: pip install -e .

if not workflow.config_settings.configfiles:

    configfile: workflow.source_path("pipelines/configs/demo.yaml")


include: "pipelines/rules/common.smk"
include: "pipelines/rules/data.smk"
include: "pipelines/rules/fetch.smk"
include: "pipelines/rules/extract.smk"
include: "pipelines/rules/fuse.smk"
include: "pipelines/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.report.output.page,
