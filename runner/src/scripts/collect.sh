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
head -c "$bytes" | tr '\n' '\0' >$list
xargs -0 sha256sum <$list >$list.sums &
sums=$!
xargs -0 tar -cf - <$list
wait $sums
echo podrun:sums >&2
cat $list.sums >&2
rm -f $list $list.sums
