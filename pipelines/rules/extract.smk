# Stage one, cut at (stream group x part). A job's output is its receipt: the command skips what
# the store holds already, so Snakemake only needs to know that a part was looked at.


rule extract:
    message:
        "extract {wildcards.group}, part {wildcards.part} of {params.parts}"
    input:
        lambda wildcards: PLAN.inputs(wildcards.group, int(wildcards.part)),
    output:
        PLAN.path("receipts/{group}/{part}.json"),
    params:
        settings=lambda wildcards: PLAN.extraction(wildcards.group),
        streams=lambda wildcards: [f"--stream={name}" for name in PLAN.groups[wildcards.group]],
        parts=PLAN.config.parts,
        store=PLAN.config.store_path,
        version=EXTRACTION,
        readers=READERS,
        stamp=lambda wildcards: PLAN.stamp(wildcards.group, int(wildcards.part)),
    log:
        PLAN.path("logs/extract/{group}/{part}.log"),
    benchmark:
        PLAN.path("benchmarks/extract/{group}/{part}.tsv")
    threads: PLAN.config.threads
    resources:
        gpu=lambda wildcards: PLAN.gpu_of(wildcards.group),
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    conda:
        "environment.yaml"
    shell:
        "concord extract run --config {params.settings:q} --store {params.store:q}"
        " {params.streams:q} --part {wildcards.part}/{params.parts} --receipt {output:q}"
        " --threads {threads} > {log:q} 2>&1"
        " || {{ code=$?; tail -n 20 {log:q} >&2; exit $code; }}"


rule index:
    message:
        "join the receipts, judge the failure budget"
    input:
        receipts,
    output:
        coverage=PLAN.path("coverage.json"),
    params:
        store=PLAN.config.store_path,
        budget=PLAN.config.failure_budget,
    log:
        PLAN.path("logs/index.log"),
    conda:
        "environment.yaml"
    shell:
        "concord extract index {input:q} --store {params.store:q} --budget {params.budget}"
        " --coverage {output.coverage:q} > {log:q} 2>&1"
        " || {{ code=$?; tail -n 20 {log:q} >&2; exit $code; }}"
