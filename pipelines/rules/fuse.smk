# Stage two: all runs of the grid in one process, over one copy of the rows; or, where
# `fuse.batches` asks for it, in several jobs, and then all scores in one.

BATCHES = PLAN.config.fuse.batches

# Rows in memory, as many as `fuse.memory` allows, beside the libraries and the training itself.
FUSE_MB = 8000 + int(1024 * (PLAN.config.fuse.memory or 8))

if PLAN.batches:

    rule fuse_batch:
        message:
            "train batch {wildcards.batch} of {params.batches}"
        input:
            rules.index.output.coverage,
        output:
            PLAN.path(f"batches/{{batch}}of{BATCHES}.json"),
        params:
            settings=PLAN.batch_settings.path,
            store=PLAN.config.store_path,
            runs=PLAN.path("runs"),
            batches=BATCHES,
        log:
            PLAN.path(f"logs/fuse/{{batch}}of{BATCHES}.log"),
        threads: PLAN.config.threads
        resources:
            gpu=PLAN.gpu,
            mem_mb=lambda wildcards, attempt: FUSE_MB * attempt,
            runtime=lambda wildcards, attempt: 240 * attempt,
        conda:
            "environment.yaml"
        shell:
            "concord fuse train --config {params.settings:q} --store {params.store:q}"
            " --coverage {input:q} --runs {params.runs:q} --receipt {output:q}"
            " --batch {wildcards.batch}/{params.batches} --threads {threads} > {log:q} 2>&1"
            " || {{ code=$?; tail -n 20 {log:q} >&2; exit $code; }}"


rule fuse:
    message:
        "score every head with every seed" if PLAN.batches else "train every head with every seed"
    input:
        coverage=rules.index.output.coverage,
        batches=PLAN.batches,
    output:
        results=PLAN.path("results.json"),
        table=PLAN.path("results.csv"),
        markdown=PLAN.path("results.md"),
    params:
        settings=PLAN.fuse_settings.path,
        store=PLAN.config.store_path,
        runs=PLAN.path("runs"),
        device=["--device=cpu"] if PLAN.batches else [],
    log:
        PLAN.path("logs/fuse.log"),
    threads: PLAN.config.threads
    resources:
        gpu=0 if PLAN.batches else PLAN.gpu,
        mem_mb=lambda wildcards, attempt: FUSE_MB * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    conda:
        "environment.yaml"
    shell:
        "concord fuse train --config {params.settings:q} --store {params.store:q}"
        " --coverage {input.coverage:q} --runs {params.runs:q} --results {output.results:q}"
        " --csv {output.table:q} --markdown {output.markdown:q} {params.device:q}"
        " --threads {threads} > {log:q} 2>&1"
        " || {{ code=$?; tail -n 20 {log:q} >&2; exit $code; }}"
