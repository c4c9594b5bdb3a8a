"""Foreign servers that answer the reference workload in other ways, to measure this one beside them.

    echo       reads the body and answers `{}`: what uvicorn costs, and nothing else
    tuned      what an expert writes with FastAPI, Redis and ONNX Runtime
    tutorial   what most tutorials write: pydantic, one HGETALL per entity, LightGBM
    mlserver, bentoml   model servers, fed with ready-made matrices; only where they are installed

`clickserve bench serve-workload --dir DIR` writes the workload and `DIR/baseline.json`, which is all they know of it.
`python -m loadtest.baselines.NAME --workload DIR --port P` prints one line of JSON with its URL when it listens, and
stops on SIGTERM. Nothing here imports the service, and the service imports nothing from here.
"""
