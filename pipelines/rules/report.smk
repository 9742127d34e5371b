rule report:
    message:
        "write the report"
    input:
        coverage=rules.index.output.coverage,
        results=rules.fuse.output.results,
    output:
        page=report(
            PLAN.path("report/index.html"), caption="captions/report.rst", category="Results"
        ),
        table=report(
            PLAN.path("report/report.csv"), caption="captions/table.rst", category="Results"
        ),
        numbers=PLAN.path("report/report.json"),
    params:
        folder=subpath(output.page, parent=True),
    log:
        PLAN.path("logs/report.log"),
    conda:
        "environment.yaml"
    shell:
        "concord report make --coverage {input.coverage:q} --results {input.results:q}"
        " --out {params.folder:q} > {log:q} 2>&1"
        " || {{ code=$?; tail -n 20 {log:q} >&2; exit $code; }}"
