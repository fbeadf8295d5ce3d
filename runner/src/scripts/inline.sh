# Unpacks input files that travel in the pod itself: SHA256 BASE64_OF_TAR_GZ...
set -eu
umask 000
sum=$1
shift
pack=/podrun-helper/inputs.tar.gz
mkdir -p /podrun/work
chmod 777 /podrun/work
printf %s "$@" | base64 -d >$pack
echo "$sum  $pack" | sha256sum -c >/dev/null
tar -xzof $pack -C /podrun/work
rm $pack
