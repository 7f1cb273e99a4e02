/* replay.c - a fuzz target without the fuzzer: runs the inputs of the folders named, for coverage and for compilers without one. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
replay_file(const char *folder, const char *name)
{
	char path[4096];
	uint8_t *data;
	FILE *f;
	long n;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "re");
	if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (n = ftell(f)) < 0) {
		perror(path);
		exit(1);
	}
	rewind(f);
	data = malloc(n > 0 ? (size_t)n : 1);	/* of just that size, for a sanitizer */
	if (data == NULL || fread(data, 1, (size_t)n, f) != (size_t)n)
		exit(1);
	fclose(f);
	(void)LLVMFuzzerTestOneInput(data, (size_t)n);
	free(data);
	return 1;
}

int
main(int argc, char *argv[])
{
	int n = 0;

	for (int i = 1; i < argc; i++) {
		DIR *folder = opendir(argv[i]);

		if (folder == NULL) {
			perror(argv[i]);
			return 1;
		}
		for (struct dirent *e = readdir(folder); e != NULL; e = readdir(folder))
			if (e->d_name[0] != '.')
				n += replay_file(argv[i], e->d_name);
		closedir(folder);
	}
	printf("%d inputs\n", n);
	return n > 0 ? 0 : 1;
}
