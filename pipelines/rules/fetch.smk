# Fall-back stores: what they list is brought here, and only what is then missing is extracted.
# Without any, this rule does not exist.

if PLAN.config.falls_back:

    # On a cluster, nodes may have no network, so this runs where Snakemake does.
    checkpoint fetch:
        localrule: True
        message:
            "fetch what {params.stores} hold"
        output:
            fetched=PLAN.path("fetched.json"),
            receipt=PLAN.path("receipts/fetched.json"),
        params:
            settings=PLAN.fetching,
            stores=" and ".join(PLAN.config.stores),
            store=PLAN.config.store_path,
            round=PLAN.round,
        log:
            PLAN.path("logs/fetch.log"),
        conda:
            "environment.yaml"
        shell:
            "concord cache fetch --config {params.settings:q} --store {params.store:q}"
            " --receipt {output.receipt:q} --summary {output.fetched:q} --round {params.round}"
            " 2>&1 | tee {log:q}"
