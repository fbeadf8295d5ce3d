# Keeps the pod's files until the runner has them and deletes the pod, at most SECONDS after the end of the script.
trap 'exit 0' TERM
waited=0
while [ $waited -lt "$1" ]; do
  sleep 1 &
  wait $!
  [ ! -e /podrun/status/ended ] || waited=$((waited + 1))
done
