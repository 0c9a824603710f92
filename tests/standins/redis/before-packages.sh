# Runs in the bare system, before the packages are installed.
# The official Alpine image has these numbers. A volume written by the one image must be readable by the other.
echo 'redis:x:1000:' >> /etc/group
echo 'redis:x:999:1000:redis:/home/redis:/bin/false' >> /etc/passwd
