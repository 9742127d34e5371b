# Stage two: all runs of the grid in one process, over one copy of the rows.


rule fuse:
    message:
        "train every head with every seed"
    input:
        rules.index.output.coverage,
    output:
        results=PLAN.path("results.json"),
    params:
        settings=PLAN.settings("streams", "fuse"),
        store=PLAN.config.store_path,
        runs=PLAN.path("runs"),
    log:
        PLAN.path("logs/fuse.log"),
    threads: PLAN.config.threads
    resources:
        gpu=PLAN.gpu,
    conda:
        "environment.yaml"
    shell:
        "concord fuse train --config {params.settings:q} --store {params.store:q}"
        " --coverage {input:q} --runs {params.runs:q} --results {output.results:q}"
        " --threads {threads} > {log:q} 2>&1"
        " || {{ code=$?; tail -n 20 {log:q} >&2; exit $code; }}"
