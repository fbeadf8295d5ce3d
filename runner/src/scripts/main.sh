# PID 1 of a task whose program is a shell: TIMEOUT GRACE PROGRAM [ARG...], both in seconds, TIMEOUT 0 for none.
# Only builtins, sleep and mv, so that it runs in any image that has the task's own shell; without sleep the host keeps time.
timeout=$1 grace=$2
shift 2
stop=
[ $$ = 1 ] && all=-1 || all=
trap 'stop=1; kill -TERM ${all:-$child}' TERM
"$@" &
child=$!
exec >/dev/null 2>&1
if [ "$timeout" != 0 ]; then
  (trap - TERM; sleep "$timeout" && { echo podrun:timed-out >>/dev/termination-log; kill -TERM $$; }) &
fi
wait $child
code=$?
if [ -n "$stop" ]; then
  left=$((grace * 10))
  while [ $left -gt 0 ] && kill -0 ${all:-$child}; do
    sleep 0.1 || sleep 1
    left=$((left - 1))
  done
  kill -KILL ${all:-$child}
  wait $child
  late=$?
  [ $late = 127 ] || code=$late
fi
echo $code >/podrun/status/.ended && mv /podrun/status/.ended /podrun/status/ended
exit $code
