/* A valid library with NVML's SONAME and none of its symbols. */
__attribute__((visibility("default"))) int not_nvml(void) { return 0; }
