# Waits until every input file arrived.
trap 'exit 143' TERM
until [ -e /podrun-helper/staged ]; do
  sleep 0.1 2>/dev/null || sleep 1
done
