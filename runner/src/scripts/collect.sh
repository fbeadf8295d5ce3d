# Lists the files of the directories given, reads which of them are wanted, sends those as tars, one after the other, on
# standard output and their SHA-256 on standard error. Standard input: a line with a number of bytes, then as many bytes of names, one a line.
set -eu
cd /podrun
find "$@" -type f -print0
printf '\0'
find "$@" -type l -exec sh -c 'for link; do printf "%s\0" "$link"; readlink -n "$link"; printf "\0"; done' podrun {} +
printf '\0'
read -r bytes
[ "$bytes" -gt 0 ] || exit 0
list=/podrun-helper/list.$$
head -c "$bytes" >$list
# In batches by the shell itself: the xargs of older busyboxes mixes up names between two batches.
all() {
  set --
  while IFS= read -r name; do
    set -- "$@" "$name"
    [ $# -lt 500 ] || {
      $run "$@" || return
      set --
    }
  done <$list
  [ $# = 0 ] || $run "$@"
}
(run=sha256sum && all) >$list.sums &
sums=$!
# Small tars write a header or a piece at a time, each of which would travel as a message of its own.
if dd bs=64k iflag=fullblock count=0 </dev/null >/dev/null 2>&1; then
  blocks='dd bs=64k iflag=fullblock'
else
  blocks=cat
fi
{ run='tar -cf -' && all || : >$list.failed; } | $blocks 2>/dev/null
wait $sums
[ ! -e $list.failed ] || exit 1
rest_in_silence
echo podrun:sums >&2
cat $list.sums >&2
rm -f $list $list.sums
