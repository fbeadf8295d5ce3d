# Waits until every input file arrived, at most SECONDS: a host that never comes back must not keep the pod for ever.
trap 'exit 143' TERM
left=$(($1 * 10))
until [ -e /podrun-helper/staged ]; do
  if [ $left -le 0 ]; then
    echo "podrun: nobody brought the input files" >&2
    exit 75
  fi
  left=$((left - 1))
  sleep 0.1 2>/dev/null || { sleep 1; left=$((left - 9)); }
done
