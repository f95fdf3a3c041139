"""An operator as its author would write it: handlers of every kind that kopf has."""

import asyncio
import os

import kopf
import kubernetes

RESOURCE = ("operator.example", "v1", "databases")


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    pki = os.environ["PKI"]
    settings.admission.server = kopf.WebhookServer(
        addr="127.0.0.1", port=9443, host="127.0.0.1",
        certfile=f"{pki}/apiserver.crt", pkeyfile=f"{pki}/apiserver.key", cafile=f"{pki}/ca.crt")
    settings.admission.managed = "operator.example"
    settings.persistence.finalizer = "operator.example/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="operator.example")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="operator.example")
    settings.watching.server_timeout = 20


@kopf.on.validate(*RESOURCE, operations=["CREATE", "UPDATE"])
def validate(spec, warnings, **_):
    if spec.get("settings", {}).get("forbidden"):
        raise kopf.AdmissionError("settings must not have 'forbidden'", code=422)
    if spec.get("replicas", 1) > 5:
        warnings.append("more than five replicas are a lot")


@kopf.on.mutate(*RESOURCE, operations=["CREATE"])
def label(patch, **_):
    patch.metadata.labels["operator.example/admitted"] = "yes"


def deployment(name, replicas):
    labels = {"database": name}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "main", "image": "busybox:1.36", "command": ["sleep", "infinity"]}]}}}}


@kopf.on.create(*RESOURCE)
async def create(body, namespace, spec, patch, retry, **_):
    if retry == 0:
        # Handlers may ask to be called again: their progress is kept in the object.
        raise kopf.TemporaryError("not at once", delay=0.1)
    child = deployment(body.metadata.name, spec["replicas"])
    kopf.adopt(child)
    await asyncio.to_thread(kubernetes.client.AppsV1Api().create_namespaced_deployment, namespace, child)
    patch.status["phase"] = "Created"
    patch.status["replicas"] = spec["replicas"]
    kopf.info(body, reason="Made", message="made a deployment")
    return {"deployment": child["metadata"]["name"]}


@kopf.on.field(*RESOURCE, field="spec.replicas", old=kopf.PRESENT)
async def scale(name, namespace, old, new, patch, **_):
    change = {"spec": {"replicas": new}}
    await asyncio.to_thread(
        kubernetes.client.AppsV1Api().patch_namespaced_deployment, name, namespace, change)
    patch.status["replicas"] = new
    patch.status["scaled"] = f"{old}->{new}"


@kopf.on.event("deployments", labels={"database": kopf.PRESENT})
async def followed(namespace, labels, status, **_):
    change = {"status": {"ready": status.get("readyReplicas", 0)}}
    try:
        await asyncio.to_thread(
            kubernetes.client.CustomObjectsApi().patch_namespaced_custom_object_status,
            *RESOURCE[:2], namespace, RESOURCE[2], labels["database"], change)
    except kubernetes.client.ApiException as error:
        if error.status != 404:
            raise


@kopf.timer(*RESOURCE, interval=1)
def tick(status, patch, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.daemon(*RESOURCE, cancellation_timeout=2)
async def daemon(stopped, **_):
    await stopped.wait(600)


@kopf.on.delete(*RESOURCE)
async def delete(name, namespace, **_):
    note = {"metadata": {"name": f"{name}-farewell"}, "data": {"said": "goodbye"}}
    await asyncio.to_thread(kubernetes.client.CoreV1Api().create_namespaced_config_map, namespace, note)


@kopf.index("configmaps")
def notes(name, namespace, **_):
    return {namespace: name}
