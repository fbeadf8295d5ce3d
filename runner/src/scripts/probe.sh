missing=
for tool in sh tar gzip base64 find head dd wc sha256sum readlink; do
  command -v $tool >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
  echo "podrun: the image of the file containers (fileSidecar.image) lacks:$missing" >&2
  exit 96
fi
