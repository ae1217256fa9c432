/* The demo's last part: a whole model. */
#ifndef FFF_TOOLS_DEMO_MODEL_H
#define FFF_TOOLS_DEMO_MODEL_H

/* Makes a model of UltraFastBERT's shape, but of two layers, in an empty folder; verifies it and times its encoder. An
 * exit status. */
int demo_model(const char *directory);

#endif
